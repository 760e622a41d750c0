"""The hostile suite: attacks by functions, uploads and requests, each judged as refused or not."""
