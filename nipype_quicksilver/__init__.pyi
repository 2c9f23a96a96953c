from nipype_quicksilver.errors import InputError as InputError
from nipype_quicksilver.registration import Registration as Registration
from nipype_quicksilver.registration import register as register

__version__: str
