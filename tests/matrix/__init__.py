"""The kill matrix: which requests fail, and for how long, after a part of the platform is killed or stopped under
load."""
