"""Strangers' archives are listed in a process of their own, with limits."""
