"""Fine-tuning: how good is a suggested learning rate for a pretrained transformer?"""
