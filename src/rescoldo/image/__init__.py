"""Images of containers with rescoldo, assembled without Docker, pushed to registries and loaded into clusters."""
