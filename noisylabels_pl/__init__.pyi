from .core import Classifier as Classifier
from .core import Regressor as Regressor
from .core import RobustLoss as RobustLoss
from .data import indexed as indexed
from .functional import per_sample_gradient_norms as per_sample_gradient_norms
from .losses import BackwardCorrectionLoss as BackwardCorrectionLoss
from .losses import ForwardCorrectionLoss as ForwardCorrectionLoss
from .losses import GCELoss as GCELoss
from .methods.clipping import IndividualClip as IndividualClip
from .methods.clipping import NormClip as NormClip
from .methods.co_prl import CoPRL as CoPRL
from .methods.crust import Crust as Crust
from .methods.elr import ELR as ELR
from .methods.elr_plus import ELRPlus as ELRPlus
from .methods.loss_correction import LossCorrection as LossCorrection
from .methods.prl import PRL as PRL

__version__: str
