"""A small paint box for the example pictures: Pillow alone, every die seeded.

Nothing here reads a picture from disk: all that is seen is drawn. Nothing here is part of the package.
"""
