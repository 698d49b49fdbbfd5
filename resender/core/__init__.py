"""The rules of the product as plain functions and values: no I/O, no clock, no framework."""
