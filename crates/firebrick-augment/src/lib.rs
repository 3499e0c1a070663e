//! Image augmentation and preprocessing for training and inference, with draws kept apart from their application.
