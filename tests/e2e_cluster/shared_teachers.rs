//! A teacher that several experiments need is trained once, and belongs to all of them.
