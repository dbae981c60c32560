"""What people see of jobs, queues, workers and the schedule, and do with them."""
