"""The cost of automatic blocking: reported measures, and the judgement of each by what followed."""
