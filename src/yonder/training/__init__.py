"""The loops: warm-up, fitting a judge, distillation; and what they share."""
