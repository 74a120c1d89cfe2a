"""What looks or reads like what: benchmarks in training data, and copies of rows.

Pictures are compared by the sha256 of their bytes and by a DCT hash of 64 bits; texts by equality
after normalising, by runs of 13 words, and by MinHash; pictures of the COCO family by their ids.
Nothing here removes a row: lists are written, and a recipe applies them.
"""
