"""The one writer: takes messages and commands from one inbox, decides, commits once, and only then acknowledges."""
