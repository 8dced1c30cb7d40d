from .core import RobustLoss as RobustLoss
from .data import indexed as indexed
from .losses import BackwardCorrectionLoss as BackwardCorrectionLoss
from .losses import ForwardCorrectionLoss as ForwardCorrectionLoss
from .losses import GCELoss as GCELoss
from .methods.crust import Crust as Crust
from .methods.elr import ELR as ELR
from .methods.elr_plus import ELRPlus as ELRPlus
from .methods.loss_correction import LossCorrection as LossCorrection

__version__: str
