//! Sequence models against the frameworks that users leave.

mod seeded_weights;
