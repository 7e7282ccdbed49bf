from . import figures as figures
from . import foundation as foundation
from . import metrics as metrics
from . import widgets as widgets
from .encoder.vit3d import BrainEmbedding as BrainEmbedding
from .encoder.vit3d import BrainEncoder as BrainEncoder
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import MissingError as MissingError
from .errors import NeurovlError as NeurovlError
from .hub import load_published as load_published
from .language import BrainLLM as BrainLLM
from .pipeline import ensure as ensure
from .pipeline import make as make
from .pipeline import preprocess as preprocess
from .pipeline import reproduce as reproduce
from .pipeline import start_run as start_run
from .reconstruction.reconstructor import Reconstructor as Reconstructor
from .recordings import open_recordings as open_recordings
from .run import Run as Run
from .run import open_run as open_run
from .settings.profile_files import load_profile as load_profile
from .smallworld.subjects import simulate as simulate
from .tokens.patch_plan import PatchPlan as PatchPlan
from .tokens.store import TokenStore as TokenStore

__version__: str
