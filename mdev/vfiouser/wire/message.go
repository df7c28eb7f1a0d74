package wire

import "fmt"

// Text is a line about a message for logs: the header, and the fixed part of
// the payload where the protocol gives the message one. Data is not shown. It
// accepts every header with every payload.
func Text(h Header, body []byte) string {
	if s := payloadText(h, body); s != "" {
		return h.String() + ": " + s
	}
	if len(body) > 0 {
		return fmt.Sprintf("%v: %d bytes", h, len(body))
	}
	return h.String()
}

func payloadText(h Header, b []byte) string {
	n := payloadLen(h)
	if n == 0 || len(b) < n {
		return ""
	}
	switch h.Command {
	case CmdVersion:
		return DecodeVersion((*[VersionLen]byte)(b)).String() + capsText(b[VersionLen:])
	case CmdDMAMap:
		return DecodeDMAMap((*[DMAMapLen]byte)(b)).String()
	case CmdDMAUnmap:
		s := DecodeDMAUnmap((*[DMAUnmapLen]byte)(b)).String()
		if len(b) >= DMAUnmapLen+BitmapLen {
			s += " " + DecodeBitmap((*[BitmapLen]byte)(b[DMAUnmapLen:])).String()
		}
		return s
	case CmdDeviceInfo:
		return DecodeDeviceInfo((*[DeviceInfoLen]byte)(b)).String()
	case CmdRegionInfo:
		return DecodeRegionInfo((*[RegionInfoLen]byte)(b)).String()
	case CmdRegionIOFDs:
		return DecodeIOFDs((*[IOFDsLen]byte)(b)).String()
	case CmdIRQInfo:
		return DecodeIRQInfo((*[IRQInfoLen]byte)(b)).String()
	case CmdSetIRQs:
		return DecodeSetIRQs((*[SetIRQsLen]byte)(b)).String()
	case CmdRegionRead, CmdRegionWrite:
		s := DecodeRegionAccess((*[RegionAccessLen]byte)(b)).String()
		if data := b[RegionAccessLen:]; len(data) > 0 && len(data) <= 8 {
			s += fmt.Sprintf(" data %x", data)
		}
		return s
	case CmdDMARead, CmdDMAWrite:
		return DecodeDMAAccess((*[DMAAccessLen]byte)(b)).String()
	case CmdWriteMulti:
		return fmt.Sprintf("%d writes", DecodeCount((*[WriteMultiLen]byte)(b)))
	case CmdFeature:
		return DecodeDeviceFeature((*[DeviceFeatureLen]byte)(b)).String()
	case CmdMigDataRead, CmdMigDataWrite:
		return DecodeMigData((*[MigDataLen]byte)(b)).String()
	}
	return ""
}

// payloadLen is the length of the fixed part of the payload of a message, 0 if
// it has none.
func payloadLen(h Header) int {
	if !h.Command.Known() || h.Flags&Error != 0 {
		return 0
	}
	if h.Flags.Type() == TypeReply {
		return payloadLens[h.Command].reply
	}
	return payloadLens[h.Command].request
}

var payloadLens = [MaxCommand + 1]struct{ request, reply int }{
	CmdVersion:      {VersionLen, VersionLen},
	CmdDMAMap:       {DMAMapLen, 0},
	CmdDMAUnmap:     {DMAUnmapLen, DMAUnmapLen},
	CmdDeviceInfo:   {DeviceInfoLen, DeviceInfoLen},
	CmdRegionInfo:   {RegionInfoLen, RegionInfoLen},
	CmdRegionIOFDs:  {IOFDsLen, IOFDsLen},
	CmdIRQInfo:      {IRQInfoLen, IRQInfoLen},
	CmdSetIRQs:      {SetIRQsLen, 0},
	CmdRegionRead:   {RegionAccessLen, RegionAccessLen},
	CmdRegionWrite:  {RegionAccessLen, RegionAccessLen},
	CmdDMARead:      {DMAAccessLen, DMAAccessLen},
	CmdDMAWrite:     {DMAAccessLen, DMAAccessLen},
	CmdWriteMulti:   {WriteMultiLen, WriteMultiLen},
	CmdFeature:      {DeviceFeatureLen, DeviceFeatureLen},
	CmdMigDataRead:  {MigDataLen, MigDataLen},
	CmdMigDataWrite: {MigDataLen, 0},
}

// capsText is what VERSION says of capabilities, without a peer's own words.
func capsText(b []byte) string {
	c, err := ParseCapabilities(b)
	switch {
	case err != nil:
		return ", bad JSON"
	case len(b) == 0:
		return ""
	}
	j := c.Append(nil)
	return " " + string(j[:max(len(j)-1, 0)])
}
