"""The smallest system there is: an example of a package that brings its own (see CONTRIBUTING.md).

Log-mel frames are stacked and projected to the width of a Llama, which writes what it heard.
"""
