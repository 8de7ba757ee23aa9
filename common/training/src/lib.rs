//! Local training with burn: tables of patients, preprocessing, recipes and the trainer.
