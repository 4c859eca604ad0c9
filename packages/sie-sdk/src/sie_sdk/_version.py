__version__ = "0.5.0"

CONTRACT_VERSION = "0.10.1"
"""The release of the public SIE whose HTTP interface this SDK uses; sent as `X-SIE-SDK-Version`."""
