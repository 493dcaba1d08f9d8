"""The plain ViT for segmentation: stem, blocks, head, weight loading, and the protocol that a token policy fulfils."""
