"""Where the bytes of array nodes come from: memory, a program that acquires, files.

A source says shape and dtype, and reads any part of itself; it raises whatever it likes when it
cannot, and the node says so in its own words.
"""
