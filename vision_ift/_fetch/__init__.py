"""What can be brought under ROOT: downloads, verified and unpacked."""
