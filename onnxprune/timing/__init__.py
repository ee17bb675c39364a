"""How long the operators of a model take, and what fewer channels make of that."""
