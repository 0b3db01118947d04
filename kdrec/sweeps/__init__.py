"""What is known of the jobs of a sweep: one record a job, and what they come to."""
