"""Why an image has its score: maps, neighbours, pictures."""
