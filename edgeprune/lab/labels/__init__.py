"""What a pretrained ViT and a convolutional peer score by the number of labelled images, at equal training."""
