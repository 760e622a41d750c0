"""The hostile suite: attacks by functions, uploads and requests, each told apart as refused or not."""
