package bolt

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"birthday-demo/app/birthday"
)

// A record is what the file keeps of a person beside the key, which is the
// username. It is this package's own format: files outlive the types of the
// subject. Version 1 is nine bytes:
//
//	0    the version, 1
//	1-2  the year, big-endian
//	3    the month
//	4    the day
//	5-8  CRC-32C of the key and of bytes 0-4, big-endian
//
// The checksum is there because bbolt has none on its pages: a bit that flips
// on the disk must not become another person or another birthday.
const (
	recordVersion = 1
	recordLength  = 9
	recordSummed  = 5 // how many of its bytes the checksum covers
)

var errRecord = errors.New("a record is damaged")

func encode(p birthday.Person) []byte {
	record := make([]byte, 0, recordLength)
	record = append(record, recordVersion)
	record = binary.BigEndian.AppendUint16(record, uint16(p.Born.Year)) //nolint:gosec // a Date's year is at most 9999
	record = append(record, byte(p.Born.Month), byte(p.Born.Day))       //nolint:gosec // nor is its day above 31
	return binary.BigEndian.AppendUint32(record, checksum([]byte(p.Username), record))
}

// decode gives the birth date in the record of key, or errRecord.
func decode(key, record []byte) (birthday.Date, error) {
	if len(record) != recordLength || record[0] != recordVersion {
		return birthday.Date{}, errRecord
	}
	summed, sum := record[:recordSummed], record[recordSummed:]
	if binary.BigEndian.Uint32(sum) != checksum(key, summed) {
		return birthday.Date{}, errRecord
	}
	year, month, day := binary.BigEndian.Uint16(summed[1:]), time.Month(summed[3]), summed[4]
	born, exists := birthday.NewDate(int(year), month, int(day))
	if !exists {
		return birthday.Date{}, errRecord
	}
	return born, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, record []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, record)
}
