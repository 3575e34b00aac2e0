"""What an operator looks at without Grafana: one live page, and metrics that only the database knows. Reads only."""
