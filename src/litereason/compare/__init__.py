"""Comparing arms: what several arms under several seeds show together. Imports no torch."""
