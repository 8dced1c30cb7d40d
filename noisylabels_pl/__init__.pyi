from .core import RobustLoss as RobustLoss
from .data import indexed as indexed
from .losses import GCELoss as GCELoss
from .methods.crust import Crust as Crust

__version__: str
