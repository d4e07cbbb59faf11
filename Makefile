.PHONY: control-plane
control-plane:
	@tests/kit/build-tool control-plane
