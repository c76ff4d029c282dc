"""The ten corruptions of ImageNet-C̄, with what their modules share."""
