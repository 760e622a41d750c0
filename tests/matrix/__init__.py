"""The kill matrix: what fails, and for how long, when a part of the platform is killed or stopped under load."""
