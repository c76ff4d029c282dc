"""Samples of a store on a page: their images, what an attack changed in them, and which of them models get wrong."""
