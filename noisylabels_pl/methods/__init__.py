"""The methods, one file each."""

from noisylabels_pl.methods.crust import Crust

__all__ = ["Crust"]
