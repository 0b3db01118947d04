"""Full-ranking evaluation, by group, with intervals."""
