"""The engine: one learner and one sampler a base model, behind one ordered mailbox a model."""
