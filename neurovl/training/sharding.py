"""A model whose weights, gradients and optimizer states are divided among processes (FSDP), for training too large for one device.

Each process holds its share. A layer's weights come together while it is computed, and go apart again.
"""

import copy

import torch
from torch import Tensor, nn


def divide(model: nn.Module, half: bool) -> nn.Module:
    """A twin of the model with its weights divided among the processes, each member of a list of layers for itself.

    The model itself keeps empty weights until `unite` gives it the twin's.

    Parameters
    ----------
    model : torch.nn.Module
        On the device; all weights that are trained in float32.
    half : bool
        Layers come together in bfloat16, in which they are computed; each process's share stays in float32, and so do
        gradients on their way.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    # Values between layers stay as autocast leaves them.
    policy = MixedPrecisionPolicy(
        torch.bfloat16 if half else None, torch.float32, cast_forward_inputs=False
    )
    twin = copy.deepcopy(model, memo={id(p): p for p in model.parameters()})
    for layers in [m for m in twin.modules() if isinstance(m, nn.ModuleList)]:
        for layer in layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(twin, mesh=mesh, mp_policy=policy)
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    return twin


@torch.no_grad()
def unite(twin: nn.Module, model: nn.Module) -> None:
    """Give the model the whole weights of its divided twin, in every process; the twin is used up."""
    whole = dict(model.named_parameters())
    for name, parameter in twin.named_parameters():
        whole[name].data = parameter.data.full_tensor()


def own(tensor: Tensor) -> Tensor:
    """This process's share of a divided tensor, as a view; a tensor that is whole is its own share."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_share(part: Tensor, like: Tensor) -> Tensor:
    """A process's share as the divided tensor that it belongs to, divided as `like`; as it is where `like` is whole."""
    from torch.distributed.tensor import DTensor

    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
