"""What a guard does about threats and policies: decide, enforce, and the responders that carry it out."""
