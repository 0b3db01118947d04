"""The one training loop and its kernels."""
