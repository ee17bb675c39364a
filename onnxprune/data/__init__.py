"""What models run on: arrays, images, labels, and what is collected from them."""
