"""BatchNorm over the batch of all processes. torch's `SyncBatchNorm` refuses tensors of a CPU; this one runs on any device.

Shapes: B images of this process, C channels, H W pixels.
"""

from torch import Tensor, nn

from edgeprune.model.global_batch import batch_sum, processes


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with mean and variance of the whole batch, in two passes: mean, then squared deviations (the difference
    of two large sums would lose the digits that they share). Parameters, buffers and their names are those of the class it
    stands for, and so are its values where one process trains."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        x_BCHW = input.float()
        count = x_BCHW[:, 0].numel() * processes()  # shares are of one size
        mean_C = batch_sum(x_BCHW.sum(dim=(0, 2, 3))) / count
        centred_BCHW = x_BCHW - mean_C[:, None, None]
        var_C = batch_sum(centred_BCHW.square().sum(dim=(0, 2, 3))) / count
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C.detach(), self.momentum)
        self.running_var.lerp_(var_C.detach() * (count / max(1, count - 1)), self.momentum)
        scale_C = self.weight * (var_C + self.eps).rsqrt()
        return (centred_BCHW * scale_C[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def norm_over_processes(model: nn.Module) -> None:
    """Lets every `BatchNorm2d` of the model see the whole batch, in place; parameters and buffers stay the same tensors."""
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if type(norm) is nn.BatchNorm2d:
                over_all = GlobalBatchNorm2d(norm.num_features, norm.eps, norm.momentum, device=norm.weight.device)
                over_all._parameters, over_all._buffers = norm._parameters, norm._buffers
                over_all.train(norm.training)
                setattr(parent, name, over_all)
