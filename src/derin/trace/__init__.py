"""A computation in numbers: every operation forward, every share of the gradient backward, the update.

t = derin.trace(lambda a, b, c: 3 * (a + b * c), 5.0, 3.0, 2.0)       # this module may be called
t = derin.trace(net, x, y, loss=nn.MSELoss(), optimizer=optim.SGD(0.01))
print(t.to_text());  t.gradients;  t.to_svg()

functions, training   what is traced            forward, backward   the jaxpr, operation by operation
story                 what is told of it        text, markdown, page, graph, json_form   how it is shown
descent               several steps as rows     of_run              a row of a run, and what was not finite
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derin.on_demand import callable_package, on_demand

if TYPE_CHECKING:
    from derin.trace.descent import Table, table
    from derin.trace.functions import trace
    from derin.trace.of_run import NotFinite, first_not_finite, trace_row
    from derin.trace.result import Trace, Update
    from derin.trace.steps import Share, Step, Value
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "functions": "trace",
            "of_run": "NotFinite first_not_finite trace_row",
            "result": "Trace Update",
            "steps": "Share Step Value",
            "descent": "Table table",
        },
    )

__all__ = [
    "NotFinite",
    "Share",
    "Step",
    "Table",
    "Trace",
    "Update",
    "Value",
    "first_not_finite",
    "table",
    "trace",
    "trace_row",
]

callable_package(__name__, "derin.trace.functions:trace")
