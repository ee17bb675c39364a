"""Three questions, three checks; they are never mixed up."""
