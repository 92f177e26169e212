"""Page and interface that score a film sent to them over HTTP."""
