"""Types of flags that several commands have."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

Count = Annotated[int, Parameter(validator=Number(gte=1))]
# Without a negative form.
Flag = Annotated[bool, Parameter(negative=())]
