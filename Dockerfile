# The image that `rescoldo kubernetes image` assembles, for those who have Docker:
#   docker build --tag REGISTRY/NAME:TAG .
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
COPY src /src
# installs the locked versions of src/rescoldo/image/requirements.txt, and compiles
RUN PYTHONPATH=/src python -m rescoldo.image.unpacked /layer

FROM ${BASE}
# the layer has pip in its own version
RUN pip uninstall --quiet --yes --root-user-action ignore setuptools wheel pip
COPY --from=build /layer /
# a number, so that Kubernetes can see that it is not root; any other uid with group 0 will do
USER 10001:0
WORKDIR /
ENTRYPOINT ["rescoldo"]
CMD []
