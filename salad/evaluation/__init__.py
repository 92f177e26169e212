"""What scores are worth: AUCs, rates, comparisons."""
