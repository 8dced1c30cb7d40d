from .core import Classifier as Classifier
from .core import Regressor as Regressor
from .core import RobustLoss as RobustLoss
from .data import indexed as indexed
from .losses import BackwardCorrectionLoss as BackwardCorrectionLoss
from .losses import ForwardCorrectionLoss as ForwardCorrectionLoss
from .losses import GCELoss as GCELoss
from .methods import ELR as ELR
from .methods import SOP as SOP
from .methods import SPL as SPL
from .methods import BackwardCorrection as BackwardCorrection
from .methods import CoPRL as CoPRL
from .methods import CoTeaching as CoTeaching
from .methods import CoTeachingPlus as CoTeachingPlus
from .methods import Crust as Crust
from .methods import Decoupling as Decoupling
from .methods import ELRPlus as ELRPlus
from .methods import ForwardCorrection as ForwardCorrection
from .methods import IndividualClip as IndividualClip
from .methods import LabelWave as LabelWave
from .methods import MentorNet as MentorNet
from .methods import MinSGD as MinSGD
from .methods import NormClip as NormClip
from .methods import PRLGradient as PRLGradient
from .methods import PRLLossLayer as PRLLossLayer
from .per_sample import per_sample_gradient_norms as per_sample_gradient_norms

__version__: str
