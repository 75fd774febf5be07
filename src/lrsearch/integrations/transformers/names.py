"""What is used of transformers and accelerate that their documentation does not promise.

Nothing with a leading underscore is. A test looks for these names in the installed versions.
"""

from __future__ import annotations

__all__ = ["RELIED_ON"]

RELIED_ON: dict[str, tuple[str, ...]] = {
    "Trainer": (
        "accelerator",
        "callback_handler",
        "current_gradient_accumulation_steps",
        "evaluation_loop",
        "get_batch_samples",
        "is_deepspeed_enabled",
        "is_fsdp_enabled",
        "is_in_train",
        "lr_scheduler",
        "model_wrapped",
        "optimizer",
        "prediction_step",
        "training_step",
    ),
    "CallbackHandler": ("callbacks",),
    "TrainerState": ("global_step", "max_steps"),
    "Accelerator": (
        "autocast",
        "backward",
        "clip_grad_norm_",
        "distributed_type",
        "gradient_state",
        "native_amp",
        "num_processes",
        "scaler",
        "sync_gradients",
    ),
    "AcceleratedOptimizer": ("optimizer",),
    "DataLoaderShard": ("base_dataloader", "gradient_state", "set_epoch"),
}
