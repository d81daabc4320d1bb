"""The way back that nearly every norm has: into the operator right before it."""

from __future__ import annotations

from bnfold.folding.find import Step, is_only_for
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Route, Sink
from bnfold.folding.survey import Survey


def plain_route(survey: Survey, step: Step) -> Route | None:
    """What ``push_back_route`` finds for a BatchNormalization right behind its linear operator.

    None where there is anything to think about: other readers, other axes, another number of
    channels, inputs of the operator that have to carry a map too.
    """
    node = step.data.producer
    if node is None or step.crossed or not step.is_batch_norm or not survey.is_linear(node):
        return None
    if node.outputs[0] is not step.data or not is_only_for(step.node, step.data):
        return None
    placed, linear = survey.read(step), survey.linear(node)
    if isinstance(placed, Refused) or isinstance(linear, Refused) or linear.outward is not None:
        return None
    rank = linear.rank()
    is_aligned = placed.axis == linear.axis and rank is not None and rank > linear.axis
    if not is_aligned or linear.asks or placed.affine.channels != linear.layer.channels:
        return None
    assert step.output is not None
    route = Route("backward")
    route.steps.append(step)
    route.sinks.append(Sink(linear, placed.affine))
    route.instead[step.data] = step.output
    return route
